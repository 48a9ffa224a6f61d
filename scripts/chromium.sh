#!/usr/bin/env bash
# Debian's Chromium, for the tests that drive the web page. Where it cannot be installed, those tests are skipped by name.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium: not installed, and only root on Debian can do it here: the tests in a browser are skipped"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
