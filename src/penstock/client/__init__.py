"""The Python client: asks a Penstock server over HTTP, from ordinary code and from asyncio."""

from penstock.client.answers import Answer, AuditInfo, FeedbackTaken, Health, ModelStatus, ModelVersion, ServerInfo
from penstock.client.async_client import AsyncClient
from penstock.client.client import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "AuditInfo",
    "Client",
    "FeedbackTaken",
    "Health",
    "ModelStatus",
    "ModelVersion",
    "ServerInfo",
]
