#!/bin/sh
# For certbot, which sets RENEWED_LINEAGE to the directory of the renewed certificate:
#
#   certbot renew --deploy-hook /path/to/certs/hooks/certbot.sh
set -eu
: "${RENEWED_LINEAGE:?certbot sets it for deploy hooks}"
exec "$(dirname -- "$(readlink -f -- "$0")")/deploy.sh" "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem"
