from convd.client import AsyncClient as AsyncClient
from convd.client import Client as Client
from convd.client import Connection as Connection
from convd.client import Tls as Tls
from convd.local_model import load as load
from convd.publishing import publish as publish

__version__: str
