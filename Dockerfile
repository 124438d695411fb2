# The server in a container; see "Containers" in docs/deployment.md.
#
#     docker build -t vllm-mcp-server .                        for machines without a GPU
#     docker build -t vllm-mcp-server --build-arg KIND=gpu .   for NVIDIA GPUs
#     docker build -t vllm-omni-cpu --target omni .            vLLM-Omni without a GPU, with the bundled image model
#     docker build -t vllm-mcp-light --target light .          without vLLM, over stdin and stdout

FROM python:3.11-slim-bookworm AS base
ARG KIND=cpu
# vLLM for CPUs links against libnuma; on a GPU, Triton compiles launchers for its kernels.
# hadolint ignore=DL3008
RUN apt-get update \
 && if [ "$KIND" = gpu ]; then set -- gcc libc6-dev; else set -- libnuma1; fi \
 && apt-get install --yes --no-install-recommends "$@" \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --shell /usr/sbin/nologin vllm \
 && mkdir -p /models /data \
 && chown vllm: /models /data
WORKDIR /app

# The packages depend only on these files, so a change of the server's code keeps this layer.
FROM base AS packages
ARG KIND=cpu
COPY requirements.txt requirements-cpu.txt ./
COPY scripts/setup scripts/venv.sh scripts/uv scripts/
RUN --mount=type=cache,target=/root/.cache scripts/setup "--$KIND"

FROM packages AS build
ARG KIND=cpu
COPY . .
# The user of the server cannot write bytecode later. The build fails if the model does not run.
RUN .venv/bin/python -m compileall -q -j 0 . || true
RUN if [ "$KIND" = cpu ]; then .venv/bin/python vllm_server.py --check=load; fi

FROM base AS omni-build
COPY . .
RUN --mount=type=cache,target=/root/.cache scripts/omni-cpu --setup-only

FROM base AS omni
COPY --from=omni-build /app /app
ENV HF_HOME=/models
VOLUME ["/models"]
USER 10001
EXPOSE 6655
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
  CMD ["/app/.venv-omni/bin/python", "-I", "/app/deploy/health.py", "6655"]
ENTRYPOINT ["/app/scripts/omni-cpu", "--host", "0.0.0.0"]

# Without vLLM: the package alone, for models on other machines. Its client starts it, over stdin and stdout.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[media]"

FROM python:3.11-slim-bookworm AS light
LABEL io.modelcontextprotocol.server.name="io.github.OWNER/mcp-server-vllm"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin vllm \
 && mkdir -p /data \
 && chown vllm: /data
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl
ENV OMNI_OUTPUT_DIR=/data/generated
VOLUME ["/data"]
USER 10001
ENTRYPOINT ["mcp-server-vllm"]

FROM base AS server
COPY --from=build /app /app
ENV HF_HOME=/models \
    OMNI_OUTPUT_DIR=/data/generated
VOLUME ["/models", "/data"]
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
  CMD ["/app/.venv/bin/python", "-I", "/app/deploy/health.py", "8080"]
# Other machines can connect, so the server requires tokens: without VLLM_HTTP_TOKENS it does not start.
ENTRYPOINT ["/app/scripts/start.sh"]
CMD ["--transport", "http", "--host", "0.0.0.0", "--port", "8080"]
