# A Hugging Face Space (Docker SDK: 2 CPUs, 16 GB), or any machine with Docker.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH PYTHONDONTWRITEBYTECODE=1

COPY --chown=user requirements.txt requirements.lock ./
# The CPU build of PyTorch is a tenth of the size of the default one.
RUN pip install --no-cache-dir --user torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir --user --require-hashes --no-deps -r requirements.lock
COPY --chown=user . .

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "server.py", "--server.port=7860", "--server.address=0.0.0.0"]
