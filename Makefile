# Each target can be run again at any time and asks nothing. What they do is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help up down logs build image test test-cluster fuzz soak audit
# How long each target of make fuzz runs.
SECONDS = 600

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

up: ## From a bare machine to a shell in your own VM
	@scripts/up.sh

down: ## Stop the VMs and the server
	@scripts/down.sh

logs: ## Follow the server's log
	@scripts/logs.sh

build: ## Build target/release/berth
	@scripts/build.sh berth

image: ## Build the image that VMs are made from
	@scripts/build.sh image

test: ## Check the style and run every test but those of a cluster
	@scripts/test.sh

test-cluster: ## Run the tests with a real cluster of Incus
	@scripts/test-cluster.sh

fuzz: ## Feed strange bytes to every parser, ten minutes each (SECONDS=600)
	@scripts/fuzz.sh $(SECONDS)

soak: ## Use, and kill, everything for an hour (BERTH_SOAK_SECONDS), and look for what is lost or left over
	@scripts/soak.sh

audit: ## Check licences and sources of the dependencies
	@scripts/audit.sh
