"""This processor as one with fewer instructions: ONNX Runtime that does not look for them.

ONNX Runtime asks the processor once which instructions it has, and has no switch for the answer. A
copy in which the check for one of them always fails chooses the kernels of an older processor, and
runs at full speed, which an emulator does not.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

COPIES = Path(".cache/onnxruntime")

VNNI_FLAGS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))

_Patch = tuple[bytes, bytes]

# mov eax, 7; mov ecx, 1; cpuid; test al, 16; je: the last mask becomes 0.
_AVX_VNNI: _Patch = (
    bytes.fromhex("b8 07000000 b9 01000000 0fa2 a8 10 74"),
    bytes.fromhex("b8 07000000 b9 01000000 0fa2 a8 00 74"),
)
# and edi, 0x800, between lea and movq.
_AVX512_VNNI: _Patch = (
    bytes.fromhex("81e7 00080000 f30f7e05"),
    bytes.fromhex("81e7 00000000 f30f7e05"),
)
# test r10d, 0x10000; je.
_AVX512: _Patch = (
    bytes.fromhex("41f7c2 00000100 74"),
    bytes.fromhex("41f7c2 00000000 74"),
)
# not r9d; and r9d, 0x3000000; jne: "and" becomes "or", so that the jump is always taken.
_AMX: _Patch = (
    bytes.fromhex("41f7d1 4181e1 00000003 0f85"),
    bytes.fromhex("41f7d1 4181c9 00000003 0f85"),
)


@dataclass(frozen=True)
class Processor:
    """A kind of processor, as ONNX Runtime sees it.

    Attributes:
        name: What it has, in words.
        least_speedup: How many times as fast as float32 int8 has to be there, in batches.
        patches: Checks that always fail there.
    """

    name: str
    least_speedup: float
    patches: tuple[_Patch, ...] = ()

    def environment(self) -> dict[str, str]:
        """The variables under which a Python process computes as this processor does.

        Raises:
            SystemExit: This build of ONNX Runtime makes the checks in another way.
        """
        if not self.patches:
            return dict(os.environ)
        folder = COPIES / self.name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(onnxruntime.__file__).parent, folder / "onnxruntime")
        (library,) = (folder / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
        code = library.read_bytes()
        for check, never in self.patches:
            if code.count(check) != 1:
                sys.exit(
                    f"onnxruntime {onnxruntime.__version__} checks its processor in a way that "
                    "bench/processors.py does not know: disassemble MLAS_PLATFORM, and adapt it"
                )
            code = code.replace(check, never)
        library.write_bytes(code)
        return dict(os.environ) | {"PYTHONPATH": f"{folder.resolve()}{os.pathsep}{Path.cwd()}"}


def kinds() -> list[Processor]:
    """This processor as it is, and as it would be with fewer instructions."""
    _, _, flags = Path("/proc/cpuinfo").read_text().partition("\nflags")
    here = set(flags.partition("\n")[0].split())
    found = [
        Processor("AVX-512 without VNNI", 1.3, (_AMX, _AVX_VNNI, _AVX512_VNNI)),
        Processor("AVX2 without VNNI", 1.3, (_AMX, _AVX_VNNI, _AVX512_VNNI, _AVX512)),
    ]
    if "avx512f" not in here:
        del found[0]
    if VNNI_FLAGS & here:
        return [Processor("with VNNI", 2.0), *found]
    return found
