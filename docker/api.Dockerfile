# The HTTP service, the migrations and the command line. No torch: this image stays small.
# Build it from the repository's root: docker build -f docker/api.Dockerfile -t memaudit-api .
FROM python:3.11-slim AS build
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY app app
COPY memaudit memaudit
COPY workers workers
COPY migrations migrations
RUN python -m venv /opt/memaudit \
    && /opt/memaudit/bin/pip install --no-cache-dir --constraint requirements.lock ".[telemetry]"

FROM python:3.11-slim
RUN groupadd --system --gid 10001 memaudit \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/memaudit --create-home memaudit \
    && install -d -o memaudit -g memaudit -m 700 /var/lib/memaudit/signing-keys
COPY --from=build /opt/memaudit /opt/memaudit
ENV PATH=/opt/memaudit/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONUNBUFFERED=1
ENV MEMAUDIT_HOME=/var/lib/memaudit
ENV MEMAUDIT_HOST=0.0.0.0
WORKDIR /var/lib/memaudit
# By number, so that an orchestrator can tell that it is not root.
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/readyz').raise_for_status()"]
CMD ["memaudit", "api"]
