# docker build --target cpu -t dfqonnx:cpu .
# docker build --target gpu -t dfqonnx:gpu .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" dfqonnx:cpu run model.onnx --bits 4
# docker run --rm --gpus all -v "$PWD:/work" dfqonnx:gpu run model.onnx --bits 4
#
# For a cluster (pipelines/deploy), with Ray and stores:
# docker build --target cpu --build-arg EXTRAS=,cluster -t dfqonnx:cpu .
#
# The cpu image is smaller with PyTorch's CPU wheels:
# docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL=<address of those wheels> -t dfqonnx:cpu .

FROM python:3.11-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 dfqonnx
WORKDIR /opt/dfqonnx
COPY constraints.txt pyproject.toml hatch_build.py README.md LICENSE ./
# An empty package stands in for the code: the dependencies' layer is rebuilt only when they change.
RUN mkdir dfqonnx && touch dfqonnx/__init__.py && echo '__version__ = "0"' > dfqonnx/version.py

FROM base AS cpu
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS=
RUN pip install --no-cache-dir --constraint constraints.txt ".[cpu${EXTRAS}]"
COPY pipelines ./pipelines
COPY dfqonnx ./dfqonnx
RUN pip install --no-cache-dir --no-deps --force-reinstall .
USER 1000:1000
WORKDIR /work
HEALTHCHECK --interval=60s --timeout=30s --start-period=10s CMD ["dfqonnx", "doctor", "--quick"]
ENTRYPOINT ["dfqonnx"]
CMD ["--help"]

FROM base AS gpu
ARG EXTRAS=
RUN pip install --no-cache-dir --constraint constraints.txt ".[gpu${EXTRAS}]"
COPY pipelines ./pipelines
COPY dfqonnx ./dfqonnx
RUN pip install --no-cache-dir --no-deps --force-reinstall .
USER 1000:1000
WORKDIR /work
HEALTHCHECK --interval=60s --timeout=30s --start-period=10s CMD ["dfqonnx", "doctor", "--quick"]
ENTRYPOINT ["dfqonnx"]
CMD ["--help"]
