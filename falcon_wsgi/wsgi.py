"""What Gunicorn loads in each worker: settings, services, app."""

from falcon_wsgi.app import create_app
from falcon_wsgi.server.master import inherited
from falcon_wsgi.services import Services

app = create_app(Services.build(*inherited()))
