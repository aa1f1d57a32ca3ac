# What the service uses and others own.

variable "secrets_kms_key_arn" {
  description = "KMS key that the secrets are encrypted with, if it is not the one that Secrets Manager has by itself."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:.+:key/.+", var.secrets_kms_key_arn))
    error_message = "Must be the ARN of a key."
  }
}

variable "allowlist_file_system_id" {
  description = "EFS file system that keeps the allowlist, which all tasks share."
  type        = string

  validation {
    condition     = startswith(var.allowlist_file_system_id, "fs-")
    error_message = "Must be the id of a file system."
  }
}

variable "allowlist_access_point_id" {
  description = "Access point of it for user and group 65532, whose folder belongs to them."
  type        = string

  validation {
    condition     = startswith(var.allowlist_access_point_id, "fsap-")
    error_message = "Must be the id of an access point."
  }
}

variable "allowlist_security_group_id" {
  description = "Security group of its mount targets, which has to let the tasks in on port 2049."
  type        = string

  validation {
    condition     = startswith(var.allowlist_security_group_id, "sg-")
    error_message = "Must be the id of a security group."
  }
}

variable "https_egress_cidr_blocks" {
  description = "Networks that tasks reach on port 443: the interface endpoints of ECR, Secrets Manager and CloudWatch Logs, without which no task starts."
  type        = list(string)
  default     = ["10.0.0.0/8"]

  validation {
    condition     = alltrue([for cidr in var.https_egress_cidr_blocks : can(cidrnetmask(cidr))])
    error_message = "Must be IPv4 networks such as 10.0.0.0/8."
  }
}

variable "https_egress_prefix_list_ids" {
  description = "Prefix lists that tasks reach on port 443: that of the gateway endpoint of S3, from which ECR serves the layers of images."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.https_egress_prefix_list_ids : startswith(id, "pl-")])
    error_message = "Must be ids of prefix lists."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms are sent to."
  type        = list(string)

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:.+", arn))])
    error_message = "Must be ARNs of topics."
  }
}

variable "alarm_latency_seconds" {
  description = "Time until an answer begins, of one in a hundred requests, from which an alarm is raised."
  type        = number
  default     = 0.5

  validation {
    condition     = var.alarm_latency_seconds > 0
    error_message = "Must be more than 0."
  }
}

variable "alarm_denied_per_minute" {
  description = "Requests a minute that are denied, of all tasks together, from which an alarm is raised."
  type        = number
  default     = 60

  validation {
    condition     = var.alarm_denied_per_minute >= 1
    error_message = "Must be at least 1."
  }
}
