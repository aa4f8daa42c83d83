wrk.method = "POST"
wrk.body = string.rep("u", 10485760)
