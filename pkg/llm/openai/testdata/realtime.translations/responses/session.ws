{"type":"session.created","event_id":"e1","session":{"id":"s","type":"translation","model":"gpt-realtime-translate","expires_at":1790000000,"audio":{"output":{"language":"es"}}}}
{"type":"session.input_transcript.delta","event_id":"e2","delta":"Hello","elapsed_ms":200}
{"type":"session.output_transcript.delta","event_id":"e3","delta":"Hola","elapsed_ms":200}
{"type":"session.output_audio.delta","event_id":"e4","delta":"AAAA","channels":1,"format":"pcm16","sample_rate":24000,"elapsed_ms":200}
{"type":"session.closed","event_id":"e5"}
