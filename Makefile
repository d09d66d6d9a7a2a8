# `make help` lists what there is. Everything is built with the Go toolchain that is installed.

export GOTOOLCHAIN := local

GO ?= go
BIN := bin
FUZZTIME ?= 3s
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w"

.PHONY: help build demo test test-long deps vet lint fuzz bench example-report clean
.NOTPARALLEL:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## static binaries in bin/
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/...

demo: build ## a gateway on loopback to try: person, token, the commands to type
	$(BIN)/sallyport demo

# The tests come last, so that their summary is the end of the output.
test: deps vet lint fuzz ## everything that has to hold before a change lands
	$(GO) test -race -timeout 20m ./...

test-long: deps ## more than 4 GiB each way over SSH, across key exchanges
	$(GO) test -timeout 60m -count 1 -run TestSSHTransfers ./cmd/sallyport -long -v

deps: ## install the Debian packages whose programs the tests talk to
	@tools/install-deps

vet: ## go vet
	$(GO) vet ./...

lint: ## gofumpt and staticcheck
	@tools/lint

fuzz: ## every fuzz target for FUZZTIME (3s)
	@FUZZTIME=$(FUZZTIME) tools/fuzz

bench: ## load against this gateway and, where it is installed, FreeRADIUS
	$(GO) run ./cmd/sallyport-bench

example-report: ## write docs/example-report anew: a made-up trust's statement and pack
	$(GO) run ./cmd/sallyport-bench example-report

clean: ## remove what build made
	rm -rf $(BIN)
