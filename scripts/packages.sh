# Sourced by the scripts that set a machine up: installs what is missing, and says so when it cannot.
# shellcheck shell=bash

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "error: not root and no sudo; run as root: $*" >&2
    return 1
  fi
}

# install_packages ROW..: a row is a command, or the path of a file, to look for, and the Debian packages that bring it.
install_packages() {
  local row wanted packages missing=()
  for row in "$@"; do
    read -r wanted packages <<<"$row"
    # A path is a command to `command -v` only if it can be run.
    if ! [[ "$wanted" == /* && -e "$wanted" ]] && ! command -v "$wanted" >/dev/null; then
      # The packages of one row are separate words.
      # shellcheck disable=SC2206
      missing+=($packages)
    fi
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    return 0
  fi
  if ! command -v apt-get >/dev/null; then
    echo "error: missing, and there is no apt-get to install them: ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}" >&2
  as_root apt-get update >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}" >&2
}

# What every build needs: a linker and a C compiler (SQLite, BLAKE3, ring), and certificates to reach the registry.
BUILD_PACKAGES=(
  "cc gcc libc6-dev"
  "/etc/ssl/certs/ca-certificates.crt ca-certificates"
)

need_cargo() {
  if ! command -v cargo >/dev/null; then
    echo "error: cargo is missing; install Rust from https://rustup.rs, rust-toolchain.toml picks the version" >&2
    return 1
  fi
}
