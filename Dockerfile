# The web page, computed on the processor:
#
#     docker build -t nst_tf .
#     mkdir -p pictures
#     docker run --rm -u "$(id -u)" -p 127.0.0.1:8600:8600 -v "$PWD/pictures:/pictures" nst_tf
#
# It prints the address to open; pictures are kept in the folder `pictures`. The command is there,
# too, with the current folder in place of `pictures`: `... nst_tf nst-tf photo.jpg painting.jpg`.
FROM python:3.13-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

WORKDIR /source
COPY requirements-cpu.txt ./
RUN pip install -r requirements-cpu.txt "starlette>=1.0" "uvicorn>=0.40"
COPY pyproject.toml setup.cfg MANIFEST.in README.md LICENSE ./
COPY nst_tf nst_tf
RUN pip install --no-deps . && rm -r /source/*

RUN install -d -m 777 /pictures
USER 1000
WORKDIR /pictures
VOLUME /pictures
EXPOSE 8600
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8600), 3).close()"]
CMD ["python", "-m", "nst_tf.web", "--host=0.0.0.0", "--allow_network", "--port=8600", "--output_dir=/pictures"]
