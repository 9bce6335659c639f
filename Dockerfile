# The service as an image of three stages: the explorer's bundle, the locked packages, and what runs.
FROM node:22-bookworm-slim AS explorer
WORKDIR /src
COPY scripts/explorer scripts/explorer
COPY graph/server/pages/explorer graph/server/pages/explorer
RUN ./scripts/explorer

FROM python:3.13-slim-bookworm AS packages
WORKDIR /app
# requirements-tracing.lock, for an image that sends traces.
ARG LOCK=requirements.lock
COPY requirements*.lock ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes --no-deps --requirement "$LOCK"

FROM python:3.13-slim-bookworm
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY pyproject.toml schema.graphql *.md ./
COPY docs docs
COPY persistence persistence
COPY graph graph
COPY --from=explorer /src/build/explorer/dist build/explorer/dist
# Compiled now, because the running container may write to nothing but its volumes.
RUN python -m compileall -q persistence graph \
  && useradd --system --uid 10001 --home-dir /app storegraph \
  && install --directory --owner=storegraph /data /data/files
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DEBUG=false \
  DATABASE_URL=sqlite+aiosqlite:////data/storegraph.db FILES_URL=file:///data/files
USER storegraph
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["python", "-m", "graph"]
CMD ["serve", "--host", "0.0.0.0"]
