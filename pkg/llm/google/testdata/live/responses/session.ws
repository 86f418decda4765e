{"setupComplete": {}}
{"serverContent": {"modelTurn": {"parts": [{"text": "Hello!"}, {"executableCode": {"code": "x", "language": "PYTHON"}}]}}}
{"toolCall": {"functionCalls": [{"id": "function-call-1", "name": "turn_on", "args": {"room": "a"}}, {"id": "function-call-2", "name": "turn_off"}]}}
{"serverContent": {"generationComplete": true}}
{"serverContent": {"turnComplete": true}, "usageMetadata": {"promptTokenCount": 296, "responseTokenCount": 12, "totalTokenCount": 308, "thoughtsTokenCount": 3, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 296}]}}
{"goAway": {"timeLeft": "50s"}}
