# Three images from one file:
#   docker build --target serve .     the server: no training framework, no compiler, no pip
#   docker build --target cuda .      the same for NVIDIA GPUs
#   docker build --target export .    training and export
#
# Versions and hashes come from deploy/containers (`make lock`). Wheels that lie in wheels/ are taken as
# they are, before those of the package index: put a CPU build of PyTorch there (`make wheels`) and
# the export image is gigabytes smaller.
#
# A digest cannot be known without asking the registry: `make image-digests` asks, and
# `--build-arg PYTHON_IMAGE=python@sha256:...` or a line in .env for docker compose pins it.
ARG PYTHON_IMAGE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_FIND_LINKS=/build/wheels
# Bytecode that carries no times, so that two builds give the same files.
ENV COMPILE="/opt/convd/bin/python -m compileall -fq --invalidation-mode unchecked-hash /opt/convd/lib" \
    NOT_OURS="site-packages/(?!convd)"
WORKDIR /build
# The brackets make the folder optional.
COPY deploy/containers/dependencies.py deploy/containers/*.txt whee[l]s /build/wheels/
RUN mv wheels/dependencies.py wheels/*.txt . && \
    pip install --require-hashes --requirement build.txt && \
    python dependencies.py --constraints constraints.txt > hashes.txt && \
    python -m venv --without-pip /opt/convd

# What the images are made of changes seldom, what is in them often: so dependencies come first.
FROM build AS serve-build
# Further extras of convd, such as "s3 traces".
ARG EXTRAS=""
COPY pyproject.toml ./
# hadolint ignore=SC2086
RUN python dependencies.py serve ${EXTRAS} > requirements.txt && \
    pip --python /opt/convd/bin/python install --no-compile --require-hashes \
        --constraint hashes.txt --requirement requirements.txt && \
    $COMPILE
COPY . /build/source
# hadolint ignore=DL3013
RUN pip wheel --no-deps --no-build-isolation --wheel-dir own /build/source && \
    pip --python /opt/convd/bin/python install --no-compile --no-deps --no-index \
        --find-links own convd-serve && \
    $COMPILE -x "$NOT_OURS"

FROM serve-build AS cuda-build
# Their versions stand in the constraints.
# hadolint ignore=DL3013
RUN pip --python /opt/convd/bin/python uninstall --yes onnxruntime && \
    pip --python /opt/convd/bin/python install --no-compile --require-hashes \
        --constraint constraints-cuda.txt 'onnxruntime-gpu[cuda,cudnn]' nvidia-ml-py && \
    $COMPILE

FROM build AS export-build
COPY pyproject.toml ./
# Among PyTorch's own tests are files for later Pythons.
RUN python dependencies.py serve export > requirements.txt && \
    pip --python /opt/convd/bin/python install --no-compile --require-hashes \
        --constraint hashes.txt --requirement requirements.txt && \
    $COMPILE -x torch/testing
COPY . /build/source
# hadolint ignore=DL3013
RUN pip wheel --no-deps --no-build-isolation --wheel-dir own /build/source && \
    pip --python /opt/convd/bin/python install --no-compile --no-deps --no-index \
        --find-links own convd-serve && \
    $COMPILE -x "$NOT_OURS"

# What every image shares: a user without rights, and a place for models that belongs to it.
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convd" \
      org.opencontainers.image.description="A monitored gRPC classification service for trained CNNs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/convd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN mkdir /models && chown 10001:10001 /models
WORKDIR /models
USER 10001:10001
ENTRYPOINT ["convd"]

FROM runtime AS export
COPY --from=export-build /opt/convd /opt/convd
# Matplotlib wants a folder for its font cache.
ENV MPLCONFIGDIR=/tmp/matplotlib
CMD ["--help"]

FROM runtime AS serving
ENV CONVD_REPOSITORY=/models \
    CONVD_HOST=0.0.0.0
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["convd", "health", "--server", "127.0.0.1:8001"]
STOPSIGNAL SIGTERM
CMD ["serve"]

FROM serving AS cuda
COPY --from=cuda-build /opt/convd /opt/convd

FROM serving AS serve
COPY --from=serve-build /opt/convd /opt/convd
