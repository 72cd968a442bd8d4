# The agent's image: an interpreter, the agent, its locked dependencies; no shell, no build tools.
#
#   docker build -t pod-checkpointer .            (or: buildah build, podman build, make image)
#
# PYTHON_IMAGE may be any image with glibc, Python 3.11 or newer, pip and ldd, for each architecture
# to build; a release gives it by digest: --build-arg PYTHON_IMAGE=...@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13.7-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements.lock ./
# Wheels only: nothing is compiled, so no architecture needs a compiler.
RUN python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
    --root-user-action=ignore --only-binary=:all: --no-deps --require-hashes \
    --requirement requirements.lock --target packages
COPY checkpointer packages/checkpointer
COPY image/assemble.py ./
RUN python3 assemble.py /image packages
# Every module of it can be loaded there, or there is no image (the demo's simulation cannot).
RUN chroot /image /usr/bin/checkpointer --version && \
    chroot /image "$(readlink -f "$(command -v python3)")" -Es -c "import importlib, pkgutil; \
    import checkpointer, watchdog.observers; \
    names = [m.name for m in pkgutil.walk_packages(checkpointer.__path__, 'checkpointer.')]; \
    [importlib.import_module(n) for n in names if '.simulation' not in n and '__main__' not in n]"

FROM scratch
COPY --from=build /image /
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pod-checkpointer" \
      org.opencontainers.image.description="Brings a Kubernetes node's pods back when it restarts without an API server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
ENV PATH=/usr/bin PYTHONUNBUFFERED=1
ENTRYPOINT ["/usr/bin/checkpointer"]
CMD ["run"]
