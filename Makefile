# Fanlight needs root, to watch and to be tested; where this user isn't root, sudo makes him so.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

PREFIX ?= /usr/local
FUZZTIME ?= 30s
ARGS ?= # for make run (see fanlight watch --help) and make bench (see go run ./bench -help)

# A user's path often lacks what mkfs and mount stand in.
export PATH := $(PATH):/usr/sbin:/sbin
# A program built with the race detector would sleep a second at its end, and the tests run hundreds of them.
export GORACE := atexit_sleep_ms=0
# go test and go run build as this user and run as root.
AS_ROOT := $(if $(SUDO),-exec 'sudo env "PATH=$(PATH)" "CI=$(CI)" "GORACE=$(GORACE)"')

ARCHITECTURES := amd64 arm64 386 riscv64 s390x
# What only the tests need, each as COMMAND:PACKAGE.
TEST_PACKAGES := mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs bindfs:bindfs cc:gcc qemu-s390x:qemu-user

BINDIR := $(DESTDIR)$(PREFIX)/bin
MANDIR := $(DESTDIR)$(PREFIX)/share/man/man1
BASHDIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR := $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISHDIR := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: build run test test-architectures test-packages lint bench fuzz install uninstall clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/fanlight ./cmd/fanlight

run: build
	$(SUDO) bin/fanlight watch $(ARGS)

test: test-packages
	go vet ./...
	CGO_ENABLED=1 go test -race -count=1 $(AS_ROOT) ./...
	@$(MAKE) --no-print-directory test-architectures

# 386 needs a kernel that runs such programs (no emulator runs Go's threads for it); CI has one.
test-architectures: test-packages
	GOARCH=386 go test -c -o /dev/null ./fanotify
	@if [ -n "$(CI)" ] || GOARCH=386 go test -run='^$$' ./fanotify >/dev/null 2>&1; then \
		echo GOARCH=386 go test -count=1 ./fanotify/...; \
		GOARCH=386 go test -count=1 $(AS_ROOT) ./fanotify/...; \
	else \
		echo "NOT TESTED for 386: this kernel runs no such programs"; \
	fi
	.ci/emulate s390x qemu-s390x

test-packages:
	@missing=; \
	for need in $(TEST_PACKAGES); do \
		command -v "$${need%:*}" >/dev/null || missing="$$missing $${need#*:}"; \
	done; \
	[ -e /usr/include/stdlib.h ] || missing="$$missing libc6-dev"; \
	[ -z "$$missing" ] || { \
		echo "the tests need$$missing"; \
		$(SUDO) apt-get -qq update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; \
	}

lint:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not formatted by gofmt: $$unformatted"; exit 1; }
	go mod tidy -diff
	go tool -modfile=tools/go.mod golangci-lint run
	@set -e; for arch in $(ARCHITECTURES); do \
		echo "go build and go vet for $$arch"; \
		CGO_ENABLED=0 GOARCH=$$arch go build ./...; \
		CGO_ENABLED=0 GOARCH=$$arch go vet ./...; \
	done

bench: test-packages
	go run $(AS_ROOT) ./bench $(ARGS)

fuzz:
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[^(]*\)(.*/\1/p' "$$file"); do \
			echo "$$file $$target"; \
			go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

# The path that sudo gives often lacks go: then what was built before is installed.
install: $(if $(shell command -v go),build)
	install -d $(BINDIR) $(MANDIR) $(BASHDIR) $(ZSHDIR) $(FISHDIR)
	install -m 755 bin/fanlight $(BINDIR)/fanlight
	bin/fanlight man $(MANDIR)
	bin/fanlight completion bash >$(BASHDIR)/fanlight
	bin/fanlight completion zsh >$(ZSHDIR)/_fanlight
	bin/fanlight completion fish >$(FISHDIR)/fanlight.fish

uninstall:
	rm -f $(BINDIR)/fanlight $(MANDIR)/fanlight.1 $(MANDIR)/fanlight-*.1
	rm -f $(BASHDIR)/fanlight $(ZSHDIR)/_fanlight $(FISHDIR)/fanlight.fish

clean:
	rm -rf bin
