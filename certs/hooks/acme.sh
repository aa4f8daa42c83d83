#!/bin/sh
# For acme.sh, which exports CERT_FULLCHAIN_PATH and CERT_KEY_PATH to the command that is to reload:
#
#   acme.sh --install-cert -d example.com --fullchain-file /etc/tls/fullchain.pem --key-file /etc/tls/key.pem \
#       --reloadcmd /path/to/certs/hooks/acme.sh
set -eu
: "${CERT_FULLCHAIN_PATH:?acme.sh sets it; give it --fullchain-file}"
: "${CERT_KEY_PATH:?acme.sh sets it; give it --key-file}"
exec "$(dirname -- "$(readlink -f -- "$0")")/deploy.sh" "$CERT_FULLCHAIN_PATH" "$CERT_KEY_PATH"
