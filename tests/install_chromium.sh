#!/usr/bin/env bash
# Installs Chromium for the browser tests where that is possible; elsewhere says why not and leaves the rest to pytest.
set -u
if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "no Chromium and no apt-get: browser tests will be skipped"; exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "no Chromium and not root (apt-get install chromium): browser tests will be skipped"; exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null \
  || echo "Chromium could not be installed: browser tests will be skipped"
