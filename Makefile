# What people and CI type. `make help` lists it.

CARGO ?= cargo
STEP := scripts/step

# Seeds of `make simulate`; SEED=N runs one, and TRACE=1 prints what happens.
SEEDS ?= 1000
FROM ?= 1
SIMULATE := $(if $(SEED),--seed $(SEED),--from $(FROM) --seeds $(SEEDS)) $(if $(TRACE),--trace)

# Faults that `make faults` injects; SEED=N decides which.
N ?= 100

.PHONY: help demo test test-core test-hdfs test-ml simulate bench faults soak lint doc deps build fuzz man bench-peers

help:
	@echo "make demo       build, start a cluster, put data in, kill servers, read all back"
	@echo "make test       all tests: test-core, test-hdfs, test-ml"
	@echo "make test-core  format, clippy, unit, property, integration tests on real processes"
	@echo "make test-hdfs  Hadoop's own client, hdfs-native, PySpark and the Go client on real clusters (needs a JDK, Maven, Go, Python)"
	@echo "make simulate   the whole cluster from one seed, under faults: SEEDS=N [FROM=n], or SEED=n [TRACE=1]"
	@echo "make faults     faults of all kinds into a real cluster under load: N=1000 SEED=1"
	@echo "make soak       the same for ten minutes: SOAK_SECONDS=600 SEED=1"
	@echo "make bench      throughput beside the limits of this machine (disk, loopback), recovery and memory of the namenode, small files"
	@echo "make bench-peers HDFS clients on RingFS and on a real HDFS 3.5, side by side (needs a JDK, Maven)"
	@echo "make fuzz       every decoder under libFuzzer, SECONDS=60 each (KEEP=1 adds what is found to the corpus)"
	@echo "make man        manual pages and completions of ringfs, into target/man and target/completions"
	@echo "make lint       format and clippy"
	@echo "make doc        rustdoc of all crates"

deps:
	@scripts/install-deps build

demo: deps
	$(CARGO) build --release --quiet -p ringfs-cli -p ringfs-tests --bins
	target/release/demo

test: test-core test-hdfs test-ml

test-core: deps
	@scripts/install-deps test
	@$(STEP) "format" $(CARGO) fmt --all --check
	@$(STEP) "build" $(CARGO) build --workspace --all-targets
	@$(STEP) "clippy" $(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(STEP) "tests" $(CARGO) test --workspace
	@$(STEP) "simulation" $(CARGO) run --quiet -p ringfs-simulation --bin simulate -- --seeds 1000
	@$(STEP) "planted mistakes" $(CARGO) test --quiet -p ringfs-simulation --features planted-bugs --test planted
	@$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

test-hdfs: deps
	@scripts/install-deps hdfs
	@$(STEP) "build" $(CARGO) build --workspace --bins
	@$(STEP) "stock clients" $(CARGO) test --workspace --features ringfs-tests/stock-clients --test hdfs --test differential

# The tier below gets its content with the Python package.
test-ml:
	@echo "test-ml: no tests yet: there is no Python package yet"

simulate: deps
	$(CARGO) run --quiet -p ringfs-simulation --bin simulate -- $(SIMULATE)

faults: deps
	@scripts/install-deps test
	$(CARGO) build --quiet --workspace --bins
	target/debug/faults --faults $(N) --seed $(or $(SEED),1)

# Ten minutes, whatever the number of faults.
soak: deps
	@scripts/install-deps test
	$(CARGO) build --quiet --workspace --bins
	target/debug/faults --faults 1000000 --seconds $(or $(SOAK_SECONDS),600) --seed $(or $(SEED),1)

bench: deps
	@scripts/install-deps bench
	$(CARGO) build --release --quiet -p ringfs-cli -p ringfs-benches --bins
	target/release/sequential
	target/release/recovery
	target/release/memory
	target/release/metadata

# Beside a real HDFS, with the same clients: needs a JDK and Maven.
bench-peers: deps
	@scripts/install-deps hdfs
	$(CARGO) build --release --quiet -p ringfs-cli -p ringfs-benches --bins
	target/release/hdfs_clients --peer

man: deps
	$(CARGO) build --quiet -p ringfs-cli
	@mkdir -p target/man target/completions
	target/debug/ringfs man target/man
	for shell in bash zsh fish; do target/debug/ringfs completions $$shell > target/completions/ringfs.$$shell; done

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

SECONDS ?= 60
fuzz: deps
	@scripts/install-deps fuzz
	@scripts/fuzz $(SECONDS)
