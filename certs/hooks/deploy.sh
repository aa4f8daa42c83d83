#!/bin/sh
# deploy.sh CERTIFICATE PRIVATE-KEY
#
# Hand a renewed certificate to the running server, and succeed only when new connections get it. The other hooks of this
# directory call this one with what their tool tells them. Where the server reads these very files, they stay untouched.
#
#   SECURESERVE_CONTROL_SOCKET  the server's control_socket (required)
#   SECURESERVE                 the command to run (secureserve)
#   SECURESERVE_ROTATE_OPTIONS  further options of `secureserve certs rotate`, such as --revoke-sessions
set -eu

: "${SECURESERVE_CONTROL_SOCKET:?set it to the control_socket of the server}"
certificate=${1:?the certificate with its chain}
private_key=${2:?its private key}

# The options are words, to be split.
# shellcheck disable=SC2086
exec "${SECURESERVE:-secureserve}" certs rotate \
    --control-socket "$SECURESERVE_CONTROL_SOCKET" \
    --certificate "$certificate" \
    --private-key "$private_key" \
    ${SECURESERVE_ROTATE_OPTIONS-}
