# The dashboard, and with other arguments every job, as a user without privileges.
#
#   docker build -t landscape .
#   docker run --rm -p 127.0.0.1:8050:8050 -v "$PWD/demo-store:/store" landscape
#   docker run --rm -v "$PWD/runs:/store" landscape train digits_mlp --out /store/digits
#   docker run --rm -v "$PWD/runs:/store" --entrypoint mpirun landscape -n 2 landscape spectrum /store/digits
#
# BASE may be any Debian-like image with Python 3.11 or newer and its venv module.
# TORCH is what pip is given for PyTorch, options such as an index of CPU builds included.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG TORCH="torch==2.13.0"

LABEL org.opencontainers.image.title="landscape" \
      org.opencontainers.image.description="Loss landscapes and Hessian spectra of PyTorch networks" \
      org.opencontainers.image.licenses="MIT"

RUN python3 -m venv /opt/landscape
ENV PATH=/opt/landscape/bin:$PATH

# PyTorch in a layer of its own: the largest one, and the one that seldom changes.
# TORCH names the version and may hold pip options, so its words are split.
# hadolint ignore=DL3013,SC2086
RUN pip install --no-cache-dir ${TORCH}

COPY pyproject.toml README.md LICENSE /src/
COPY landscape /src/landscape
COPY app /src/app
COPY jobs /src/jobs
RUN pip install --no-cache-dir "/src[mpi,serve]"

# Matplotlib and friends write caches below HOME; /store is where runs are mounted.
RUN useradd --create-home --uid 1000 landscape \
    && mkdir /store \
    && chown landscape:landscape /store
USER 1000:1000
WORKDIR /home/landscape
VOLUME /store
EXPOSE 8050

HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8050/healthz', timeout=8)"]

# Inside a container only 0.0.0.0 can be reached from outside; publish it to 127.0.0.1 as above. The log shows the token.
ENTRYPOINT ["landscape"]
CMD ["dashboard", "/store", "--host", "0.0.0.0", "--port", "8050", "--production"]
