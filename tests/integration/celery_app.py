"""A Celery app as in Flask's documentation, configured by the environment."""

from __future__ import annotations

import os

from celery import Celery, Task
from flask import Flask

from tests.shop import make_app


def init_celery(app: Flask) -> Celery:
    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


app = make_app(
    MONGO_URI=os.environ["MONGO_URI"],
    STRIPE_API_BASE=os.environ["STRIPE_API_BASE"],
    CELERY={
        "broker_url": os.environ["BROKER_URL"],
        # A dead worker's tasks are sent again after five seconds, checked every second.
        "broker_transport_options": {
            "visibility_timeout": 5,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
        "worker_prefetch_multiplier": 1,
        "imports": ("flask_refunds.celery",),
    },
)
celery_app = init_celery(app)
