# For processors: docker build -t rkkd .
# For CUDA:       docker build -t rkkd:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:${PYTHON}-slim
# Triton compiles its launchers with a C compiler.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# PyPI's own wheels bring CUDA; only the driver is the machine's.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision
ARG EXTRAS=detection,onnx,tensorboard,timm
COPY --from=build /wheels /wheels
# hadolint ignore=DL3013
RUN wheel="$(echo /wheels/rkkd-*.whl)" && pip install --no-cache-dir "${wheel}[${EXTRAS}]"

# Any user may write there: docker run --user "$(id -u):$(id -g)".
RUN useradd --create-home --uid 1000 rkkd && mkdir -p /cache /study/results \
    && chmod 1777 /cache /study /study/results
USER 1000:1000
ENV RKKD_CACHE=/cache
WORKDIR /study
VOLUME ["/cache", "/study/results"]
ENTRYPOINT ["rkkd"]
