#!/bin/sh
# Prints the path of a Python that can set Falcon up: 3.11 or newer, with venv. PYTHON names one to use.
# Where there is none, one line on standard error says what was found and what is needed.

probe='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if sys.version_info < (3, 11):
    print("old " + version)
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("bare " + version + " has no venv module; on Debian and Ubuntu: apt-get install python%d.%d-venv"
              % sys.version_info[:2])
        sys.exit()
    try:
        import ssl
    except ImportError:
        print("bare " + version + " was built without SSL, so that it can install no package")
        sys.exit()
    print("ok " + sys.executable)
'

fail() {
    echo "falcon: $1" >&2
    exit 1
}

found=
bare=
if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3.13 python3.12 python3.11 python3 python3.14 python
fi
for candidate; do
    result=$("$candidate" -I -c "$probe" 2>/dev/null) || continue
    case $result in
        ok\ *) echo "${result#ok }"; exit 0 ;;
        bare\ *) bare=${bare:-"${result#bare }"} ;;
        old\ *) found="$found${found:+, }$candidate (${result#old })" ;;
    esac
done

if [ -n "$bare" ]; then
    fail "Python $bare"
fi
if [ -n "${PYTHON:-}" ]; then
    fail "PYTHON=$PYTHON is not Python 3.11 or newer${found:+: found $found}"
fi
fail "Python 3.11 or newer is needed, found ${found:-none on PATH}; install it, or name one: make run PYTHON=/path/to/python3.12"
