"""The admin page."""

from .views import send_asset, show_page

__all__ = ["send_asset", "show_page"]
