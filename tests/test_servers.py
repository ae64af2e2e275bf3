"""What tests rely on of the servers that they start."""

import bson
import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError
from servers import Mongo, Proxy, Secantus


def test_a_mongodb_is_filled_read_raw_stopped_killed_and_emptied(mongo: Mongo, mongo_database: str) -> None:
    documents = [{"_id": n, "z": {"b": bson.Int64(n), "a": [1.0, None]}} for n in range(1000)]
    with mongo.connect() as client:
        client[mongo_database]["customers"].insert_many(documents)

    def batches(url: str) -> list[bytes]:
        with pymongo.MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=2000) as client:
            found = client.get_default_database()["customers"].find_raw_batches(
                {"_id": {"$gte": 100}}, sort=[("_id", 1)], batch_size=300, hint="_id_"
            )
            return list(found)

    url = mongo.url(mongo_database)
    read = batches(url)
    assert len(read) == 3
    assert b"".join(read) == b"".join(map(bson.encode, documents[100:]))

    if isinstance(mongo, Secantus):
        with pytest.raises(OperationFailure, match=r"(?i)authentication failed"):
            batches(mongo.url(mongo_database, "tester", "wrong"))
        proxy = Proxy(mongo.port, lambda sent: b"find" in sent)
        with pytest.raises(PyMongoError):
            batches(mongo.url(mongo_database, port=proxy.port))
        proxy.close()
        assert proxy.cuts
        mongo.stop()  # what was written is kept
        mongo.start()
        assert batches(url) == read
        mongo.kill()
        with pytest.raises(PyMongoError):
            batches(url)
        mongo.start()
        assert batches(url) == read

    mongo.create(mongo_database)
    assert batches(url) == []
