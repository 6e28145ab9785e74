from convd.client import AsyncClient as AsyncClient
from convd.client import Client as Client
from convd.client import Connection as Connection
from convd.client import Tls as Tls

__version__: str
