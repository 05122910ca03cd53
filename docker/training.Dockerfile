# Training, evaluation, calibration and export: PyTorch. Built from the repository's root:
#
#   docker build -f docker/training.Dockerfile -t superbin-training .
#
# Photos are mounted at /data (read-only will do), runs at /runs, bundles to export at /models.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN python requirements.py cpu train umap words > requirements.txt \
    && python -m venv --without-pip /opt/superbin \
    && python -m pip --python /opt/superbin/bin/python install --no-cache-dir \
        -c constraints.txt -r requirements.txt

FROM dependencies AS package
COPY README.md LICENSE ./
COPY service service
COPY training training
# Into a folder of its own, which makes it a layer of its own below.
RUN python -m pip --python /opt/superbin/bin/python install --no-cache-dir \
        --no-deps --root /package .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="superbin-training" \
      org.opencontainers.image.description="Trains and exports superclass models for refuse" \
      org.opencontainers.image.licenses="Apache-2.0"
# /cache holds decoded photos and must take any user: runs belong to whoever owns the mounted folder.
RUN groupadd --gid 10001 superbin \
    && useradd --uid 10001 --gid superbin --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin superbin \
    && install -d -m 1777 /cache \
    && install -d -o superbin -g superbin /data /runs /models
COPY --from=dependencies /opt/superbin /opt/superbin
COPY --from=package /package/opt/superbin /opt/superbin
# HOME and USER hold for a user id that this image does not know, too. ONNX Runtime's own builds report
# to their maker unless told not to.
ENV PATH=/opt/superbin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp \
    USER=superbin \
    XDG_CACHE_HOME=/cache \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /runs
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["superbin"]
CMD ["--help"]
