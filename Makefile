# procnanny: build, try, test, install. `make` alone lists what there is.

PREFIX  ?= /usr/local
DESTDIR ?=
BIN     ?= bin
GO      ?= go

# The tree may belong to somebody else than the caller (root in a user's clone,
# or the other way round); git refuses to read such a tree unless told.
VERSION := $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD  = $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)'

COMMANDS = procnannyd procnanny-control procnanny-eval procnanny

bindir     = $(DESTDIR)$(PREFIX)/bin
libexecdir = $(DESTDIR)$(PREFIX)/libexec/procnanny
mandir     = $(DESTDIR)$(PREFIX)/share/man/man8
bashdir    = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir     = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir    = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

export GO BIN VERSION

.PHONY: help setup setup-test build demo test test-uml lint docs bench fuzz install uninstall clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a build needs, if it is missing (apt, as root or with sudo)
	@.ci/setup build

setup-test: ## install what the tests need, if it is missing
	@.ci/setup build test

build: setup ## build the four commands into bin/
	@mkdir -p $(BIN)
	$(GOBUILD) -o $(BIN)/ $(addprefix ./cmd/,$(COMMANDS))

demo: ## see it run: examples/hello, live, until ctrl-C
	@examples/demo

test: setup-test ## vet, all tests, the race detector, each fuzz target briefly
	@.ci/test

test-uml: ## boot Linux 6.1 (User-Mode Linux, installed if missing), and test there
	@.ci/setup build uml
	PROCNANNY_TEST_MACHINE='$(or $(MACHINE),on)' $(GO) test -count=1 -timeout 0 -v ./cmd/procnanny -run '^Test(OldKernel|PackagesUnderAnOldKernel|PowerCuts|InitOfAMachine)$$'

lint: setup ## formatting, vet and the linters, pinned in .ci/tools.mod
	@.ci/lint

docs: setup ## write the generated parts of README.md again
	$(GO) test -count=1 ./runtime ./spec/specfile -run '^TestReadme' -update

bench: setup ## run the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: setup ## run each fuzz target for SECONDS (60)
	@.ci/fuzz $(or $(SECONDS),60)

install: build ## install under DESTDIR/PREFIX (/usr/local)
	install -d $(bindir) $(libexecdir) $(mandir) $(bashdir) $(zshdir) $(fishdir)
	install -m 755 $(BIN)/procnannyd $(BIN)/procnanny $(bindir)/
	install -m 755 $(BIN)/procnanny-control $(BIN)/procnanny-eval $(libexecdir)/
	.ci/manpage procnannyd > $(mandir)/procnannyd.8
	.ci/manpage procnanny > $(mandir)/procnanny.8
	$(BIN)/procnanny completion bash > $(bashdir)/procnanny
	$(BIN)/procnanny completion zsh > $(zshdir)/_procnanny
	$(BIN)/procnanny completion fish > $(fishdir)/procnanny.fish

uninstall: ## remove what install put there
	rm -f $(bindir)/procnannyd $(bindir)/procnanny
	rm -rf $(libexecdir)
	rm -f $(mandir)/procnannyd.8 $(mandir)/procnanny.8
	rm -f $(bashdir)/procnanny $(zshdir)/_procnanny $(fishdir)/procnanny.fish

clean: ## remove what a build leaves
	rm -rf bin dist examples/clients/node/node_modules
