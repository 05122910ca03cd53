# The service: FastAPI and ONNX Runtime, no torch. Built from the repository's root:
#
#   docker build -f docker/service.Dockerfile -t superbin-service .
#   docker build -f docker/service.Dockerfile -t superbin-service:gpu --build-arg EXECUTION=gpu .
#
# The GPU build brings CUDA's libraries along; the host has to bring the driver and NVIDIA's
# container toolkit. It still runs on the CPU until SUPERBIN_DEVICE=cuda asks for the GPU.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS dependencies
# cpu or gpu: the extra of pyproject.toml, and so the flavour of ONNX Runtime
ARG EXECUTION=cpu
WORKDIR /build
COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN python requirements.py "${EXECUTION}" trace review report grpc > requirements.txt \
    && python -m venv --without-pip /opt/superbin \
    && python -m pip --python /opt/superbin/bin/python install --no-cache-dir \
        -c constraints.txt -r requirements.txt \
    # numpy's own tests, 17 MB
    && find /opt/superbin -path '*/numpy/*' -type d -name tests -prune -exec rm -r {} +

FROM dependencies AS package
COPY README.md LICENSE ./
COPY service service
# Into a folder of its own, which makes it a layer of its own below.
RUN python -m pip --python /opt/superbin/bin/python install --no-cache-dir \
        --no-deps --root /package .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="superbin-service" \
      org.opencontainers.image.description="Sorts photos of refuse into superclasses" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 superbin \
    && useradd --uid 10001 --gid superbin --no-create-home --home-dir /app \
        --shell /usr/sbin/nologin superbin
COPY --from=dependencies /opt/superbin /opt/superbin
COPY docker/healthcheck.py /app/
COPY models /app/models
COPY --from=package /package/opt/superbin /opt/superbin
# ONNX Runtime's own builds report to their maker unless told not to.
ENV PATH=/opt/superbin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SUPERBIN_HOST=0.0.0.0 \
    SUPERBIN_PORT=8000 \
    SUPERBIN_MODELS_DIR=/app/models
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/app/healthcheck.py"]
ENTRYPOINT ["superbin"]
CMD ["serve"]
