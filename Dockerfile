# rag-api and all that it needs to answer questions: ONNX Runtime, pdfium and the embedding model. A container starts
# without a network, as another user than root, and writes nowhere but in /tmp.
#
#   docker build --tag rag-api .
#   docker run --read-only --tmpfs /tmp --publish 8000:8000 rag-api serve …
#
# Both images are Debian 12: what is built in the one finds its glibc in the other. Version and digest go together.
FROM rust:1.96.0-slim-bookworm@sha256:4732ca96fd086cb9be682050c3f0176288eebaac2b80aa2bcefccfaf198e1950 AS rust
WORKDIR /src
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# The same pinned packages as on a developer's machine. deploy/setup installs the Python that it needs.
FROM rust AS models
COPY Cargo.toml ./
COPY deploy deploy
RUN RAG_MODELS_DIR=/models deploy/setup models

FROM rust AS build
COPY Cargo.toml Cargo.lock ./
COPY config config
COPY src src
# The caches stay on the machine that builds: the second build compiles what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin rag-api && cp target/release/rag-api /rag-api

# glibc, libstdc++ (ONNX Runtime's), certificates; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
COPY LICENSE /opt/rag-api/LICENSE
COPY --from=models /models /opt/rag-api/models
COPY --from=build /rag-api /usr/local/bin/rag-api
ENV RAG_LISTEN=0.0.0.0:8000 \
    RAG_MODELS_DIR=/opt/rag-api/models
# `nonroot`, by number: Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/rag-api", "health"]
ENTRYPOINT ["/usr/local/bin/rag-api"]
CMD ["serve", "--profile", "production"]
