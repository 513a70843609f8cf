# A Hugging Face Space (Docker SDK, free tier: 2 CPUs, 16 GB), or any machine with Docker.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH

COPY --chown=user requirements.txt .
# The CPU build of PyTorch is a tenth of the size of the default one.
RUN pip install --no-cache-dir --user torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir --user -r requirements.txt
COPY --chown=user . .

EXPOSE 7860
CMD ["streamlit", "run", "server.py", "--server.port=7860", "--server.address=0.0.0.0"]
