# A worker: torch and transformers, and no HTTP.
# Build it from the repository's root: docker build -f docker/worker.Dockerfile -t memaudit-worker .
# On machines without a GPU, --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu saves gigabytes.
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/memaudit \
    && /opt/memaudit/bin/pip install --no-cache-dir --index-url ${TORCH_INDEX} \
        --extra-index-url https://pypi.org/simple "$(grep '^torch==' requirements.lock)"
COPY app app
COPY memaudit memaudit
COPY workers workers
COPY migrations migrations
RUN /opt/memaudit/bin/pip install --no-cache-dir --constraint requirements.lock ".[worker,telemetry]"

FROM python:3.11-slim
RUN groupadd --system --gid 10001 memaudit \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/memaudit --create-home memaudit \
    && install -d -o memaudit /var/lib/memaudit/huggingface
COPY --from=build /opt/memaudit /opt/memaudit
ENV PATH=/opt/memaudit/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONUNBUFFERED=1
ENV MEMAUDIT_HOME=/var/lib/memaudit
ENV HF_HOME=/var/lib/memaudit/huggingface
WORKDIR /var/lib/memaudit
# By number, so that an orchestrator can tell that it is not root.
USER 10001
CMD ["memaudit", "worker", "--queue", "gpu"]
