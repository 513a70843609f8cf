# Each target makes what it needs: a virtual environment with the pinned packages, then the command. A second call starts at once.

PYTHON ?= python3
RUN := .venv/bin

.PHONY: app test lint wheel-check space-check load results lock clean

app: .venv/app
	$(RUN)/streamlit run server.py

# Four workers also on two cores, because tests in a browser spend much of their time waiting. Each has one thread, as
# threads that share a core stall one another. Bytecode is kept because many tests start Python anew.
test: .venv/dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses 4 --dist worksteal

lint: .venv/dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

# Builds the wheel, installs it in an empty environment outside the clone, and uses it there.
wheel-check: .venv/dev
	$(RUN)/python -m pytest -m wheel tests/test_wheel.py

# Runs the command of the Dockerfile as a Space does: as another user, who can write nothing and reach no hub. Needs root.
space-check: .venv/dev
	$(RUN)/python -m pytest -m space tests/test_space.py

# Fuzz, soak and load for about half an hour, with the figures that were measured.
load: .venv/dev
	$(RUN)/python -m pytest -m load --capture no tests/load

# The tables of docs/results.md, from the committed rows of the experiments.
results: .venv/dev
	$(RUN)/python -m invlib.experiments.report docs/results.md

# PyTorch's build depends on the machine; everything else is pinned with hashes.
.venv/app: requirements.txt requirements.lock
	$(PYTHON) -m venv .venv
	$(RUN)/pip install --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(RUN)/pip install --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	touch $@

# Pins the newest versions that requirements.txt admits.
lock:
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install --disable-pip-version-check pip-tools
	{ echo "# Everything that the app runs on but PyTorch, whose build depends on the machine. Made by \`make lock\`."; \
	.venv/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --unsafe-package torch --no-annotate --no-header \
	--output-file - requirements.txt | grep --invert-match '^#\|^$$'; } > requirements.lock

.venv/dev: requirements-dev.txt .venv/app
	$(RUN)/pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
