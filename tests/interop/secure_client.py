"""Triton's client against a server with TLS, client certificates and tokens.

python -m tests.interop.secure_client GRPC HTTP MODEL TOKEN CA CERTIFICATE KEY OTHER_CA
"""

import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Ask over both protocols, with credentials and without each part of them."""
    address, http_address, model, token, authority, certificate, key, stranger = sys.argv[1:]
    headers = {"authorization": f"Bearer {token}"}

    def over_grpc(authority: str = authority, certificate: str | None = certificate) -> Any:
        return triton.InferenceServerClient(
            address,
            ssl=True,
            root_certificates=authority,
            certificate_chain=certificate,
            private_key=certificate and key,
        )

    client = over_grpc()
    metadata = client.get_model_metadata(model, headers=headers)
    shape = [1, *next(one.shape for one in metadata.inputs if one.name == "image")[1:]]
    wrong = {"authorization": "Bearer wrong"}
    answers = []
    for module, one in ((triton, client), (triton_http, over_http(http_address, authority))):
        tensor = module.InferInput("image", shape, "UINT8")
        tensor.set_data_from_numpy(np.zeros(shape, np.uint8))
        answers.append(one.infer(model, [tensor], headers=headers).as_numpy("probabilities"))
        expect_refusal(lambda one=one, tensor=tensor: one.infer(model, [tensor]))
        expect_refusal(lambda one=one, tensor=tensor: one.infer(model, [tensor], headers=wrong))
    assert (answers[0] == answers[1]).all()
    expect_refusal(lambda: over_grpc(stranger).is_server_live(client_timeout=10), "UNAVAILABLE")
    no_certificate = over_grpc(certificate=None)
    expect_refusal(lambda: no_certificate.is_server_live(client_timeout=10), "UNAVAILABLE")
    try:
        over_http(http_address, stranger).is_server_live()
    except Exception as error:
        assert "CERTIFICATE_VERIFY_FAILED" in repr(error), error
    else:
        raise AssertionError("an unknown authority was accepted")
    print("ok  Triton's client with TLS, client certificates and tokens")


def over_http(address: str, authority: str) -> Any:
    """A client over HTTPS."""
    return triton_http.InferenceServerClient(address, ssl=True, ssl_options={"ca_certs": authority})


def expect_refusal(call: Any, status: str = "") -> None:
    """Make a call that has to be refused."""
    try:
        call()
    except InferenceServerException as error:
        assert status in str(error.status()), error
        return
    raise AssertionError("not refused")


if __name__ == "__main__":
    main()
