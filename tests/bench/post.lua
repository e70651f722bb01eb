-- Posts a text message as Twilio sends it, each with a MessageSid of its own.
local thread_count = 0
function setup(thread)
  thread:set("thread_number", thread_count)
  thread_count = thread_count + 1
end
function init(args)
  request_number = 0
  headers = { ["Content-Type"] = "application/x-www-form-urlencoded", ["Authorization"] = args[1],
    ["User-Agent"] = "TwilioProxy/1.1", ["Accept"] = "*/*", ["I-Twilio-Idempotency-Token"] = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    ["X-Twilio-Signature"] = "RSOYDt4T1cUTdK1PDd93/VVr8B8=" }
  run = args[2]
end
function request()
  request_number = request_number + 1
  local sid = string.format("SM%s%02d%022d", run, thread_number, request_number)
  local sender = string.format("%%2B4477009%05d", request_number % 5000)
  local body = "SmsMessageSid=" .. sid .. "&NumMedia=0&ProfileName=Ada+Okafor&MessageType=text&SmsSid=" .. sid ..
    "&WaId=447700900123&SmsStatus=received&Body=Hello%2C+where+is+my+order+%234711%3F&To=whatsapp%3A%2B14155238886" ..
    "&NumSegments=1&ReferralNumMedia=0&MessageSid=" .. sid .. "&AccountSid=AC00000000000000000000000000000007" ..
    "&ChannelMetadata=%7B%22type%22%3A%22whatsapp%22%2C%22data%22%3A%7B%22context%22%3A%7B%22ProfileName%22%3A%22Ada+Okafor%22%2C%22WaId%22%3A%22447700900123%22%7D%7D%7D" ..
    "&From=whatsapp%3A" .. sender .. "&ApiVersion=2010-04-01"
  return wrk.format("POST", nil, headers, body)
end
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('JSON {"requests": %d, "seconds": %f, "bad": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
