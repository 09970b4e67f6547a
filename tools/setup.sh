#!/bin/sh
# Make .venv from requirements.lock, unless it is there, whole, current and made for this folder.
# Written for any POSIX shell; the Makefile calls it before everything else.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}

# The stamp is written last, so a .venv without it is half-made. It holds the
# checksum of what was installed, because dates mean nothing after a git clone.
stamp=.venv/.complete
wanted=$(cat requirements.lock pyproject.toml | cksum)

# Fails for a venv whose Python is gone, and for one that was copied or moved
# here: its scripts would still run the code of the other folder.
whole() {
    .venv/bin/python -P -c 'import os, course_utils as course
raise SystemExit(not os.path.samefile(os.path.dirname(course.__path__[0]), "."))' 2>/dev/null
}

fits() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

find_python() {
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if fits "$python"; then
            echo "$python"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3}"
    fail "Python 3.11 to 3.14 is needed, here is $found. Install one (https://www.python.org/downloads/), or name it: make PYTHON=/path/to/python3.12"
}

if [ -f "$stamp" ] && whole; then
    [ "$(cat "$stamp")" = "$wanted" ] && exit 0
    echo "requirements.lock or pyproject.toml has changed: bringing .venv up to date"
else
    python=$(find_python)
    echo "making .venv with $("$python" --version) (once, a few minutes)"
    "$python" -m venv --clear .venv ||
        fail "$python could not make a virtual environment, see above. On Debian or Ubuntu: sudo apt install python3-venv"
fi

rm -f "$stamp"
.venv/bin/python -m pip install --disable-pip-version-check -r requirements.lock ||
    fail "pip could not install requirements.lock, see above. With network and 14 GB of free disk, run the same command again: it goes on where it stopped"
.venv/bin/python -m pip install --disable-pip-version-check --quiet \
    --no-deps --no-build-isolation -e . ||
    fail "pip could not install the course's own package, see above"
# For a plain `jupyter lab`, too; pip leaves such files out of an editable installation.
mkdir -p .venv/etc/jupyter .venv/share/jupyter
cp -R course_utils/jupyter/jupyter_*config* .venv/etc/jupyter/
cp -R course_utils/jupyter/share/. .venv/share/jupyter/
echo "$wanted" >"$stamp"
