# Vault Agent keeps a certificate of Vault's PKI engine in one file, key and chain together, so that the two can never be
# seen apart. The server reads it as ssl_certificate alone; its watcher notices each renewal.
vault {
  address = "https://vault.example.com:8200"
}

auto_auth {
  method "approle" {
    config = {
      role_id_file_path   = "/etc/vault/role-id"
      secret_id_file_path = "/etc/vault/secret-id"
    }
  }
}

template {
  destination = "/run/secureserve/app.pem"
  perms       = "0600"
  contents    = <<EOT
{{ with pkiCert "pki/issue/app" "common_name=app.internal" "ttl=24h" }}
{{ .Key }}
{{ .Cert }}
{{ .CA }}
{{ end }}
EOT

  # Not needed beside the server's watcher. With certificate_watch = false it takes its place.
  exec {
    command = ["secureserve", "certs", "reload", "--control-socket", "/run/secureserve/control"]
  }
}
