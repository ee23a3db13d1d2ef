#!/bin/sh
# What the tests with network namespaces need, where we may install it; without it they are skipped, saying why.
set -u
if command -v ip >/dev/null && command -v iptables >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then exit 0; fi
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --quiet=2 --no-install-recommends iproute2 iptables >/dev/null 2>&1 \
	|| { apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends iproute2 iptables; } >/dev/null 2>&1 \
	|| echo "iproute2 and iptables could not be installed: the tests with network namespaces are skipped" >&2
exit 0
