"""Feature attribution of generative models, on the models that an interpd daemon keeps resident.

``worker`` is what workers load and needs torch. Everything else (results, aggregation, files, views, the client's part,
the commands) needs numpy and the light base only; so nothing is imported here.
"""
