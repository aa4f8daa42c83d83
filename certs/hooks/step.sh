#!/bin/sh
# For step, which tells a hook nothing, so it is given the files:
#
#   step ca renew --daemon --exec "/path/to/certs/hooks/step.sh /etc/tls/app.crt /etc/tls/app.key" \
#       /etc/tls/app.crt /etc/tls/app.key
set -eu
exec "$(dirname -- "$(readlink -f -- "$0")")/deploy.sh" "${1:?the certificate}" "${2:?its private key}"
