# Every target makes what it needs; `make demo` and `make test` are each the only command to type.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types contract format bench bench-startup bench-swap bench-shadow bench-log bench-replay bench-peers load soak exactness simulate simulate-ab compression sizes clients readers schemathesis test-torch test-tensorflow soak-rows soak-kills soak-control soak-swaps soak-arms soak-rollouts soak-aa clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## the whole story on real data in about a minute
	$(BIN)/penstock demo

test: $(STAMP)   ## every test; under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak-rows: $(STAMP)   ## a million rows from 64 connections come back to their callers; `make test` asks 100,000
	PENSTOCK_TEST_ROWS=1000000 $(BIN)/python -m pytest tests/faults/test_rows_come_back.py --durations=1

soak-kills: $(STAMP)   ## 30 rounds of kill -9 under load lose and repeat no answer; `make test` does 3
	PENSTOCK_TEST_ROUNDS=30 $(BIN)/python -m pytest tests/faults/test_kill.py --durations=1

soak-control: $(STAMP)   ## 500 random lives of a control plane on each database; `make test` does 8
	PENSTOCK_TEST_EXAMPLES=500 $(BIN)/python -m pytest tests/control/test_state_machine.py --durations=2

soak-swaps: $(STAMP)   ## 100 deploys and rollbacks under load, one a second; `make test` does 24 as fast as they go
	PENSTOCK_TEST_SWAPS=100 PENSTOCK_TEST_SWAP_S=1 $(BIN)/python -m pytest tests/faults/test_swap.py -k deploys_and_rollbacks --durations=1

soak-arms: $(STAMP)   ## 100,000 callers keep their arm of three, through a kill and changed weights; `make test` asks 2,000
	PENSTOCK_TEST_KEYS=100000 $(BIN)/python -m pytest tests/faults/test_arms_kept.py --log-cli-level=INFO --durations=1

soak-rollouts: $(STAMP)   ## rollouts of bank_full, ten of an identical version and one of each fault; their controllers killed
	PENSTOCK_TEST_ROLLOUTS=10 $(BIN)/python -m pytest -s tests/faults/test_rollouts_served.py tests/faults/test_rollout_dies.py

soak-aa: $(STAMP)   ## 20 rollouts of an identical version under full load: none is held or aborted; ten minutes; needs wrk
	PENSTOCK_TEST_AA=20 $(BIN)/python -m pytest -s tests/faults/test_rollout_same.py

# Half a gigabyte each, so in environments of their own; `make test` skips their tests.
test-torch: .venv-torch/.installed   ## PyTorch modules and TorchScript
	.venv-torch/bin/python -m pytest tests/bundle/nets tests/bundle/loaders/test_script_scan.py

test-tensorflow: .venv-tensorflow/.installed   ## TensorFlow's SavedModel
	.venv-tensorflow/bin/python -m pytest tests/bundle/nets/test_saved_model.py

.venv-torch/.installed .venv-tensorflow/.installed: .venv-%/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pack,$*]' \
		pytest hypothesis
	touch $@

readers: $(STAMP) .venvs/readers/.installed   ## other programs read the sealed files of the log
	$(BIN)/python -m pytest tests/audit/test_sealed_read_by_others.py

.venvs/readers/.installed: Makefile
	$(PYTHON) -m venv .venvs/readers
	.venvs/readers/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0
	touch $@

clients: $(STAMP)   ## unmodified clients of other servers, each in .venvs/clients, against ours
	$(BIN)/python tests/clients/environments.py
	$(BIN)/python -m pytest tests/clients

schemathesis: $(STAMP) .venvs/schemathesis/.installed   ## Schemathesis against a server and its /openapi.json
	$(BIN)/python -W ignore tests/openapi_fuzz.py .venvs/schemathesis/bin/schemathesis --max-examples 100

.venvs/schemathesis/.installed: Makefile
	$(PYTHON) -m venv .venvs/schemathesis
	.venvs/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check schemathesis==4.32.5
	touch $@

compression: .venv-torch/.installed   ## regenerates docs/compression.md from ../shared/data
	.venv-torch/bin/python benchmarks/compression.py

check: $(STAMP) lint types contract   ## format, lint, types, import contract (the shape is a test)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

contract: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)   ## regenerates docs/performance.md in 10 minutes; needs wrk, and two cores left alone
	$(BIN)/python benchmarks/bench.py --write

bench-startup: $(STAMP)   ## start-up, return after kill -9 and memory of each process; needs wrk; two minutes
	$(BIN)/python benchmarks/startup.py --write

bench-swap: $(STAMP)   ## p99 during swaps and the time of a rollback; needs wrk, and two cores left alone; six minutes
	$(BIN)/python benchmarks/swap.py --write

bench-shadow: $(STAMP)   ## what a shadow costs the champion's callers; needs wrk, and two cores left alone; ten minutes
	$(BIN)/python benchmarks/shadow.py --write

bench-log: $(STAMP)   ## what the log costs, and sealing and searching five million records; needs wrk, 5 GB in /tmp; some ten minutes
	$(BIN)/python benchmarks/log_reading.py --write

bench-replay: $(STAMP)   ## 100,000 recorded rows scored again, on one core; two minutes
	$(BIN)/python benchmarks/replay.py --write

bench-peers: $(STAMP)   ## regenerates docs/peers.md: six other servers, in .venvs/peers; needs wrk; half an hour
	$(BIN)/python benchmarks/peers.py --write

load: $(STAMP)   ## the founding targets with ab (apt-get install apache2-utils)
	$(BIN)/python benchmarks/load.py --write

soak: $(STAMP)   ## 10 minutes at 70 % of capacity (SOAK_S=60 for one minute); needs wrk, and 8 GB in /tmp
	$(BIN)/python benchmarks/soak.py --write

sizes: $(STAMP)   ## what each extra takes on disk
	$(BIN)/python benchmarks/install_size.py

simulate: $(STAMP)   ## a thousand simulated rollouts of each kind, for docs/rollouts.md; some five minutes
	$(BIN)/python benchmarks/simulate.py --write

simulate-ab: $(STAMP)   ## simulated A/B tests, for docs/experiments.md; some two minutes
	$(BIN)/python benchmarks/ab_tests.py

exactness: $(STAMP)   ## regenerates docs/exactness.md from ../shared/data
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/matrix.py

proto: $(STAMP)   ## oip.binpb of oip.proto
	$(BIN)/python -m grpc_tools.protoc -Isrc/penstock/server/rpc --descriptor_set_out=src/penstock/server/rpc/oip.binpb \
		oip.proto

clean:
	rm -rf $(VENV) .venv-torch .venv-tensorflow .venvs .mypy_cache .ruff_cache .hypothesis build dist
