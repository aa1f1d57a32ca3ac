# Short names for the commands that README.md explains. What a change has to pass
# is .ci/run.

.PHONY: help run test e2e bench ci

help: ## Lists these targets
	@sed -n 's/^\([a-z0-9]*\):.*## /  make \1\t/p' Makefile

run: ## Serves for development, in memory, on port 3001
	go run ./cmd/dixie serve --dev

test: ## Runs the tests; those of e2e skip themselves
	go test ./...

e2e: ## Starts everything on this machine and tests it from outside
	go run ./internal/e2e

bench: ## Measures everything against limits of this machine; takes an hour
	go run ./internal/bench all

ci: ## Runs everything that a change has to pass
	.ci/run
