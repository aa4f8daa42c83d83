#!/bin/sh
# For lego, which sets LEGO_CERT_PATH and LEGO_CERT_KEY_PATH (or, since 5, LEGO_HOOK_CERT_PATH and LEGO_HOOK_CERT_KEY_PATH):
#
#   lego ... renew --renew-hook /path/to/certs/hooks/lego.sh
set -eu
certificate=${LEGO_HOOK_CERT_PATH-${LEGO_CERT_PATH:?lego sets it for hooks}}
private_key=${LEGO_HOOK_CERT_KEY_PATH-${LEGO_CERT_KEY_PATH:?lego sets it for hooks}}
exec "$(dirname -- "$(readlink -f -- "$0")")/deploy.sh" "$certificate" "$private_key"
