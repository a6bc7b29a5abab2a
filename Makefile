# One verb for each chore. `make run` and `make test` install the Debian packages that they need.

.PHONY: run build deb test page matrix service lint deny fuzz fuzz-all bench demo images clean

run: ## The demo line-up on air on this machine, and a viewer on station 2
	@scripts/packages.sh build
	cargo build --release --locked
	@scripts/run.sh

build: ## Both programs, in target/release
	@scripts/packages.sh build
	cargo build --release --locked

deb: ## Debian packages of the broadcaster and of the viewer, in target/debian
	@scripts/packages.sh build
	contrib/deb.sh

test: ## Every test, the web page and a short fuzzing run included
	@scripts/packages.sh test
	cargo test --locked --no-fail-fast
	cargo test --locked --bench pacing -- --smoke
	@$(MAKE) --no-print-directory page fuzz

page: ## The web page in Chromium; SDP and RTSP by a parser and a client that are not ours
	@scripts/packages.sh page
	@# Building a test too gives dependencies the same features as `cargo test`, so that they are not built again.
	cargo build --locked --bin broadcaster --test commands
	cd tests/page && npm ci --silent --no-audit --no-fund && \
	    BROADCASTER=$(CURDIR)/target/debug/broadcaster node --test --test-reporter=tap

matrix: ## Every client by every transport it has, mpv and PyAV included
	@scripts/packages.sh matrix
	test -x target/pyav/bin/python || python3 -m venv target/pyav
	target/pyav/bin/pip install --quiet av numpy
	STATIONCAST_TESTS_MUST_RUN=1 STATIONCAST_MATRIX=1 STATIONCAST_PYTHON=$(CURDIR)/target/pyav/bin/python cargo test --locked --test clients

service: ## The unit of systemd, under a systemd of its own: start, reload, watchdog, journal. As root
	cargo build --locked --bin broadcaster
	scripts/service.sh target/debug/broadcaster

lint: ## Formatting, clippy, documentation: has to be clean before a commit
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

deny: ## Licences, advisories and sources of the dependencies (deny.toml)
	@cargo deny --version >/dev/null 2>&1 || { echo "this needs cargo-deny: cargo install --locked cargo-deny"; exit 1; }
	cargo deny --locked check

# Coverage feedback for libFuzzer by flags that stable Rust has. No sanitizer, because there is no unsafe code.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions
FUZZ_SECONDS ?= 10

# These need no more than the library; the others build OpenCV's bindings, too.
FUZZ_TARGETS ?= directory rtp_jpeg protected

fuzz: ## Each fuzz target of FUZZ_TARGETS for FUZZ_SECONDS seconds
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked $(FUZZ_FEATURES) --target $$(rustc -vV | sed -n 's/host: //p')
	cd fuzz && for target in $(FUZZ_TARGETS); do \
	    name=$$(basename $$target .rs); mkdir -p corpus/$$name artifacts/$$name; \
	    target/*/release/$$name -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -malloc_limit_mb=64 \
	        -verbosity=0 -print_final_stats=1 -artifact_prefix=artifacts/$$name/ corpus/$$name seeds/$$name || exit 1; \
	done

fuzz-all: ## Every fuzz target: also what only the broadcaster and the viewer read
	@$(MAKE) --no-print-directory fuzz FUZZ_FEATURES="--features programs" \
	    FUZZ_TARGETS="$(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))"

bench: ## The cost of each step and of each sender, and how late pictures leave (BENCH_SECONDS=N for each row)
	cargo bench --locked --bench path
	cargo bench --locked --bench pacing -- --seconds $(BENCH_SECONDS)
	cargo bench --locked --bench unicast -- --seconds $(BENCH_SECONDS)
	@echo "bytes a second of each step: target/criterion; lateness and cost of senders: target/pacing"

BENCH_SECONDS ?= 30

demo: ## Render the clips in media/ anew
	cargo run --release --locked --example render_demo

images: ## The pictures of the window in docs/images, taken anew
	@scripts/packages.sh test
	cargo build --locked --bins
	scripts/images.sh target/debug

clean:
	rm -rf tests/page/node_modules
	cargo clean
	cd fuzz && cargo clean
