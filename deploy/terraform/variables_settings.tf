# Settings of the service. None is a secret: secrets are in Secrets Manager. What is
# empty is not set, and the service's default counts.

variable "finn_url" {
  description = "Where finn is (FINN_URL), inside of 10.0.0.0/8."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/@?#]+$", var.finn_url))
    error_message = "Must be a URL such as http://finn.internal:3000, without a user."
  }
}

variable "redis_url" {
  description = "REDIS_URL. The service takes it and does not use it, so nothing lets it reach Redis."
  type        = string
  default     = ""

  validation {
    condition     = !strcontains(var.redis_url, "@")
    error_message = "Must not have a user or a password: it is a plain variable, which everybody who can see the task can read."
  }
}

variable "nats_url" {
  description = "NATS servers, separated by commas, on port 4222 inside of 10.0.0.0/8 (NATS_URL). Alone it does nothing."
  type        = string
  default     = ""

  validation {
    condition     = !strcontains(var.nats_url, "@")
    error_message = "Must not have a user or a password: it is a plain variable, which everybody who can see the task can read."
  }
}

variable "nats_publish" {
  description = "Publish to nats_url (DIXIE_NATS_PUBLISH)."
  type        = bool
  default     = false
}

variable "cors_origins" {
  description = "Origins whose pages may use the API (DIXIE_CORS_ORIGINS)."
  type        = list(string)

  validation {
    condition     = length(var.cors_origins) > 0 && alltrue([for origin in var.cors_origins : can(regex("^https?://[^/*]+$", origin))])
    error_message = "Must be origins such as https://dixie.example."
  }
}

variable "siwe_domains" {
  description = "Sites that may ask wallets to sign in (DIXIE_SIWE_DOMAINS); those of cors_origins when empty."
  type        = list(string)
  default     = []
}

variable "siwe_chains" {
  description = "EIP-155 ids of the chains that wallets may sign in with (DIXIE_SIWE_CHAINS)."
  type        = list(number)
  default     = [1]

  validation {
    condition     = length(var.siwe_chains) > 0 && alltrue([for id in var.siwe_chains : id >= 1 && floor(id) == id])
    error_message = "Must be ids of chains, such as 1."
  }
}

variable "jwt_kid" {
  description = "Name of the key in tokens (DIXIE_JWT_KID). Change it with the key."
  type        = string
  default     = "dixie-es256-v1"
}

variable "jwt_previous_public_keys" {
  description = "Public keys in PEM form that also verify tokens, while keys are changed (DIXIE_JWT_PREVIOUS_PUBLIC_KEYS)."
  type        = string
  default     = ""

  validation {
    condition     = !strcontains(var.jwt_previous_public_keys, "PRIVATE KEY")
    error_message = "Must be public keys: openssl ec -in private.pem -pubout."
  }
}

variable "database_pool_size" {
  description = "Most connections of a task to the database, besides up to four of its own (DATABASE_POOL_SIZE)."
  type        = number
  default     = 10

  validation {
    condition     = var.database_pool_size >= 1 && var.database_pool_size <= 100
    error_message = "Must be between 1 and 100."
  }
}

variable "max_lag" {
  description = "Age of an unprojected event from which the log tells of it, and an alarm does (DIXIE_MAX_LAG)."
  type        = string
  default     = "1m"

  validation {
    condition     = can(regex("^[1-9][0-9]*(s|m|h)$", var.max_lag))
    error_message = "Must be a duration such as 90s or 5m."
  }
}

variable "rate_limit_rpm" {
  description = "Requests a minute of each caller, counted by each task (DIXIE_RATE_LIMIT_RPM). 0 is no limit; null is 100 for wallets and addresses, and none for API keys."
  type        = number
  default     = null

  validation {
    condition     = var.rate_limit_rpm == null ? true : var.rate_limit_rpm >= 0 && var.rate_limit_rpm <= 10000
    error_message = "Must be between 0 and 10000."
  }
}

variable "x402_enabled" {
  description = "Mark answers as a scaffold of payment (DIXIE_X402_ENABLED)."
  type        = bool
  default     = false
}

variable "log_level" {
  description = "Least level of log lines (LOG_LEVEL). Alarms need info."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["debug", "info"], var.log_level)
    error_message = "Must be debug or info: alarms are made from lines of these levels."
  }
}
