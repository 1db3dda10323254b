# onced: build, run, test. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test proof soak bench lint release setup

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

run: setup ## Start the server on 127.0.0.1:50051; ARGS="--store memory:" adds arguments
	@.ci/with-progress cargo build
	@exec cargo run --quiet -- serve $(ARGS)

test: setup ## Run all tests; ARGS="decide" picks some by name
	@.ci/with-progress cargo test $(ARGS)

proof: setup ## Attack every promise at length, up to an hour, and print what was lost
	@.ci/proof

# The length of the mixed load of the long run in seconds, and how many keys expire at once before.
LENGTH ?= 600
KEYS ?= 10000000

soak: release ## Run for LENGTH=600 seconds and let KEYS=10000000 expire; figures, and a plot in SVG
	@mkdir -p target/soak
	@.ci/with-progress cargo test --no-run --test soak
	@target=$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'); \
	ONCED_TEST_SOAK_BINARY=$$target/release/onced ONCED_TEST_SOAK_PLOT=target/soak/soak.svg \
	ONCED_TEST_SOAK_SECONDS=$(LENGTH) ONCED_TEST_SOAK_KEYS=$(KEYS) \
	    cargo test --quiet --test soak -- --nocapture
	@echo "The plot is target/soak/soak.svg"

bench: release ## Measure against a no-op call, Redis, PostgreSQL and etcd; ARGS="--only peers --rounds 3"
	@.ci/bench $(ARGS)

lint: setup ## Check the formatting, clippy's lints and the protos (needs buf)
	cargo fmt --check
	@command -v buf >/dev/null || { echo "buf is missing: npm install --global @bufbuild/buf" >&2; exit 1; }
	buf lint proto
	.ci/with-progress cargo clippy --all-targets -- --deny warnings

# RocksDB compiles to the same archive for both profiles (see Cargo.toml), so the release
# links the one that `make run` and `make test` use. Cargo itself says where it lies.
release: setup ## Build the optimised binary, target/release/onced
	@out=$$(.ci/with-progress cargo build --package librocksdb-sys \
	    --message-format json-render-diagnostics | \
	    sed -n '/"build-script-executed"/s/.*librocksdb-sys.*"out_dir":"\([^"]*\)".*/\1/p'); \
	if [[ -z $${ROCKSDB_LIB_DIR:-} && -e $$out/librocksdb.a ]]; then \
	    export ROCKSDB_LIB_DIR=$$out ROCKSDB_STATIC=1; \
	fi; \
	.ci/with-progress cargo build --release

setup: ## Install what the build needs, and write .cargo/machine.toml
	@.ci/setup
