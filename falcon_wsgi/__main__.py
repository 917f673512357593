"""`python -m falcon_wsgi` is the `falcon` command."""

from falcon_wsgi.cli import main

if __name__ == "__main__":
    main()
