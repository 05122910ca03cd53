# The whole interface for working on Superbin. `make help` lists it; CI runs `make check test`.
.DEFAULT_GOAL := help
.PHONY: serve test check format clean help

PYTHON ?= python3
# cpu or gpu: the flavour of ONNX Runtime, which cannot stand beside the other
EXTRA ?= cpu
# Where to listen, if not at 127.0.0.1:8000. HOST is not taken from the environment, since some
# shells put the machine's name there.
HOST =
PORT ?=

VENV := .venv
BIN := $(VENV)/bin
SPEC := pyproject.toml constraints.txt
EVERYTHING := $(EXTRA),train,dev

serve: $(VENV)/.serve ## Install the service into .venv and serve the bundled model (HOST, PORT, EXTRA)
	@exec $(BIN)/superbin serve $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT))

test: $(VENV)/.test ## Run every test
	$(BIN)/pytest

check: $(VENV)/.test ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## Rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove .venv and what the tools left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		.hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

# The stamps hold the flavour that was installed. A second call is instant; a changed pyproject.toml
# or constraints.txt installs anew, and so does another EXTRA, once the other flavour is gone.
ifneq ($(shell cat $(VENV)/.serve 2>/dev/null),$(EXTRA))
.PHONY: $(VENV)/.serve
endif
ifneq ($(shell cat $(VENV)/.test 2>/dev/null),$(EXTRA))
.PHONY: $(VENV)/.test
endif

define install
@[ "$$(cat $(VENV)/.serve 2>/dev/null)" = "$(EXTRA)" ] || { rm -f $(VENV)/.test; \
	$(BIN)/python -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu 2>/dev/null; }
$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
@echo $(EXTRA) > $(VENV)/.serve
endef

$(VENV)/.serve: $(SPEC) | $(BIN)/pip
	$(call install,$(EXTRA))

$(VENV)/.test: $(SPEC) | $(BIN)/pip
	$(call install,$(EVERYTHING))
	@echo $(EXTRA) > $@

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Superbin needs Python 3.11 or later, and there is no $(PYTHON)." \
			"Name yours: make PYTHON=/path/to/python3.11"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Superbin needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V)." \
			"Name another: make PYTHON=python3.11"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no module venv. On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
