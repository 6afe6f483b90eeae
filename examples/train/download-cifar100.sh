#!/bin/sh
# Downloads CIFAR-100 (binary version, 161 MB) from its publisher into FOLDER/cifar-100-binary:
#   download-cifar100.sh [FOLDER]        FOLDER is ./data unless given
# A download that was cut is continued by the next call. The archive is checked before it is unpacked, and the data
# appears whole or not at all. MMA_CIFAR100_URL and MMA_CIFAR100_MD5 name a mirror.
set -eu

url=${MMA_CIFAR100_URL:-https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz}
md5=${MMA_CIFAR100_MD5:-03b5dce01913d631647c71ecec9e9cb8}
folder=${1:-data}
data=$folder/cifar-100-binary
part=$folder/cifar-100-binary.tar.gz.part

fail() {
  echo "download-cifar100: $*" >&2
  exit 1
}

size_of() { if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi; }

# Whole records of 3074 bytes, at least one.
is_data() { [ "$(size_of "$1")" -gt 0 ] && [ $(($(size_of "$1") % 3074)) -eq 0 ]; }

is_complete() { is_data "$1/train.bin" && is_data "$1/test.bin"; }

is_intact() { [ -f "$1" ] && [ "$(md5sum <"$1" | cut -d ' ' -f 1)" = "$md5" ]; }

# Appends to $part what it lacks. Sets $status (HTTP) and $message; returns curl's code.
download() {
  if [ -t 2 ]; then progress=--progress-bar; else progress=--silent; fi
  code=0
  answer=$(curl --fail --location --continue-at - $progress --connect-timeout 30 --speed-limit 1 --speed-time 60 \
    --write-out '%{http_code} %{errormsg}' --output "$part" "$url") || code=$?
  status=${answer%% *}
  message=${answer#* }
  return $code
}

download_or_say_why_not() {
  if download && [ "$status" != 416 ]; then return; fi
  # 33: the server cannot continue downloads; 416: it has fewer bytes than we have. Only a new start helps.
  if [ $code -eq 33 ] || [ "$status" = 416 ]; then
    rm -f "$part"
    if download; then return; fi
  fi
  [ "$(size_of "$part")" -gt 0 ] || fail "cannot download $url: $message"
  fail "the download stopped at $(size_of "$part") bytes, call this again to continue it: $message"
}

unpack() {
  fresh=$(mktemp -d "$folder/.cifar-100-binary.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  trap 'exit 1' HUP INT TERM
  tar -xzf "$part" --no-same-owner -C "$fresh" || fail "cannot unpack $part into $folder"
  is_complete "$fresh/cifar-100-binary" || fail "$url holds no cifar-100-binary/train.bin and test.bin"
  mv -T "$fresh/cifar-100-binary" "$data" || fail "cannot put the data at $data"
  rm "$part"
}

if is_complete "$data"; then
  echo "CIFAR-100 is already in $data"
  exit 0
fi
[ ! -e "$data" ] || fail "$data exists but is not the whole data set: move it away and call this again"
command -v curl >/dev/null || fail "curl is missing: install it, for example with apt-get install curl"
mkdir -p "$folder" 2>/dev/null || fail "cannot make the folder $folder"
if ! is_intact "$part"; then
  echo "Downloading $url"
  download_or_say_why_not
fi
if ! is_intact "$part"; then
  rm "$part"
  fail "what $url sent has not the MD5 sum $md5: it was removed, call this again to start anew"
fi
unpack
echo "CIFAR-100 is in $data"
